"""What a search decides, as a pure state machine: no Ray, no clock, no files."""
