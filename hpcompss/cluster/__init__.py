"""A cluster under COMPSs: its nodes and their resources, its files, its commands."""
