"""One evaluation. Pure: limits, a frame and the alerts so far in; alerts and their steps out."""
