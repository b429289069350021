"""`lrs demo`: the main job, on directories or on a virtual tape library."""
