"""What the page shows, worked out from records: pure functions without Streamlit or database."""
