"""The spool: telemetry bodies on disk, for records that memory has no room for and for the next process."""
