"""Programs that show Stovetop at work."""
