"""What the product costs: calls counted by the simulator against their budgets, and speed.

`budgets` counts, `speed` measures, `package` weighs what is deployed, `report` writes the tables. All of it runs on `demo.stage`.
"""
