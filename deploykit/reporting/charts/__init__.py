"""Charts as inline SVG, coloured by the page's style sheet so that light, dark and print all work."""
