"""The figures as a paper shows them: matplotlib's, each as PNG, SVG and PDF beside the report."""
