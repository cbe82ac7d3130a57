"""What turns files into table rows: adapters of the port `domain.ports.engine`."""
