"""Steps through D1 and R2, and what workerd gives for each."""
