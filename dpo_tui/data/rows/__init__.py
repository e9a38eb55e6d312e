"""From one record to the turns of its pairs: shapes, messages, transcripts."""
