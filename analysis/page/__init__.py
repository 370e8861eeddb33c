"""The report's page: one HTML file that holds everything it shows, and Bokeh's interactive parts."""
