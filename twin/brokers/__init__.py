"""MQTT brokers: in memory, embedded, mosquitto."""
