"""The five steps of the New screen: widgets that show the plan and post what the user chooses."""
