"""The figures as a paper shows them: matplotlib's, each as PNG and SVG beside the report."""
