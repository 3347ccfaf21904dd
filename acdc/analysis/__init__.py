"""What is measured and computed of circuits once they are found."""
