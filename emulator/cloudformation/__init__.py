"""CloudFormation for the local platform: templates become the calls that a user would make."""
