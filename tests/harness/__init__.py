"""What tests share: daemons, databases, clients, fake providers and servers, ways to wait."""
