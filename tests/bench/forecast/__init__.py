"""How well `forecast` does on public series that nobody here wrote, beside four known methods."""
