"""Small faults to put into the source, each of which the tests have to notice."""
