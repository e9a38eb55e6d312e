"""The five steps of the screen New; each is a pane that shows a plan and says what the person wants."""
