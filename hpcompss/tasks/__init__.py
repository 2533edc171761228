"""The functions that run on workers: plain, one file each, knowing nothing of engines."""
