"""Compare runs: `synthpoll compare RUN [RUN ...]` and the page of a run. Works on run folders alone, as files."""
