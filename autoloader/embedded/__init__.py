"""The components that Autoloader runs itself when nothing else is configured."""
