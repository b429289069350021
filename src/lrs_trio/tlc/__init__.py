"""The tape library controller: has media moved for whoever asks over TCP, one move at a time."""
