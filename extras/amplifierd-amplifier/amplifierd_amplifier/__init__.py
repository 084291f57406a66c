"""The engine `amplifier` of amplifierd: turns with the modules of amplifier-core."""
