// Shared by the explorables.
