"""Tables, frontier, figures and the HTML page."""
