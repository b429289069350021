"""Many runs: in several processes, and what they have to reach together."""
