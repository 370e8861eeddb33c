"""The report: one HTML file that holds everything it shows, with Bokeh's interactive parts."""
