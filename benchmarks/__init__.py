"""How fast, measured side by side with what it could be: each target of the design next to its floor.

make bench                               every target, 100,000 products, about half an hour
python -m benchmarks --size smoke        what CI runs: seconds, ratios only
python -m benchmarks.compare_dlt         the same work done by dlt's rest_api source
"""
