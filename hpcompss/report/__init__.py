"""What people and other programs see of a study: the live view, tables and exports."""
