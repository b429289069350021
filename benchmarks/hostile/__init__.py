"""Hostile and unlucky clients beside an honest one, on a real daemon: what that costs the honest one."""
