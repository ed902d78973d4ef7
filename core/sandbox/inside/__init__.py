"""What runs on the far side of the border: standard library only, loaded without the rest of Ratchet."""
