"""`dpo-tui improve`: rounds of sampling answers, judging them, training on the pairs and judging the result."""
