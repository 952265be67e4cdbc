"""Everything that the firmware can note in an event log. Codes and logs are the companion profile's."""

from __future__ import annotations

import enum


class MeterEvent(enum.StrEnum):
    POWER_DOWN = "power_down"
    POWER_UP = "power_up"
    LOG_CLEARED = "log_cleared"
    # time
    DST_CHANGED = "dst_changed"
    CLOCK_ADJUSTED_OLD = "clock_adjusted_old"
    CLOCK_ADJUSTED_NEW = "clock_adjusted_new"
    CLOCK_INVALID = "clock_invalid"
    BATTERY_REPLACE = "battery_replace"
    # tariff and parameters
    TARIFF_ACTIVATED = "tariff_activated"
    TARIFF_PROGRAMMED = "tariff_programmed"
    PARAMETER_CHANGED = "parameter_changed"
    DEMAND_RESET = "demand_reset"
    BILLING_PERIOD_ENDED = "billing_period_ended"
    # the device
    ERROR_REGISTER_CLEARED = "error_register_cleared"
    ALARM_REGISTER_CLEARED = "alarm_register_cleared"
    NONVOLATILE_MEMORY_ERROR = "nonvolatile_memory_error"
    FIRMWARE_READY = "firmware_ready"
    FIRMWARE_ACTIVATED = "firmware_activated"
    FIRMWARE_VERIFICATION_FAILED = "firmware_verification_failed"
    # security
    KEYS_CHANGED = "keys_changed"
    AUTHENTICATION_FAILURE = "authentication_failure"
    ASSOCIATION_LOCKED = "association_locked"
    DECRYPTION_FAILURE = "decryption_failure"
    REPLAY_REFUSED = "replay_refused"
    # tamper
    METER_COVER_OPENED = "meter_cover_opened"
    METER_COVER_CLOSED = "meter_cover_closed"
    TERMINAL_COVER_OPENED = "terminal_cover_opened"
    TERMINAL_COVER_CLOSED = "terminal_cover_closed"
    MAGNET_DETECTED = "magnet_detected"
    MAGNET_GONE = "magnet_gone"
    NEUTRAL_LOST = "neutral_lost"
    NEUTRAL_BACK = "neutral_back"
    CURRENT_REVERSED = "current_reversed"
    CURRENT_NORMAL = "current_normal"
    # supply control
    REMOTE_DISCONNECT = "remote_disconnect"
    REMOTE_RECONNECT = "remote_reconnect"
    MANUAL_DISCONNECT = "manual_disconnect"
    MANUAL_RECONNECT = "manual_reconnect"
    LOCAL_DISCONNECT = "local_disconnect"
    LOCAL_RECONNECT = "local_reconnect"
    LIMITER_EXCEEDED = "limiter_exceeded"
    LIMITER_NORMAL = "limiter_normal"
    DISCONNECTOR_FAILED = "disconnector_failed"
    # leakage protection
    LEAKAGE_TRIP = "leakage_trip"
    LEAKAGE_LOCKED_OUT = "leakage_locked_out"
    LEAKAGE_CLOSE_REFUSED = "leakage_close_refused"
    LEAKAGE_SENSOR_FAILED = "leakage_sensor_failed"
    ISOLATION_FAILED = "isolation_failed"
    # power quality
    VOLTAGE_SAG_L1 = "voltage_sag_l1"
    VOLTAGE_SAG_L2 = "voltage_sag_l2"
    VOLTAGE_SAG_L3 = "voltage_sag_l3"
    VOLTAGE_SWELL_L1 = "voltage_swell_l1"
    VOLTAGE_SWELL_L2 = "voltage_swell_l2"
    VOLTAGE_SWELL_L3 = "voltage_swell_l3"
    VOLTAGE_MISSING_L1 = "voltage_missing_l1"
    VOLTAGE_MISSING_L2 = "voltage_missing_l2"
    VOLTAGE_MISSING_L3 = "voltage_missing_l3"
    VOLTAGE_NORMAL_L1 = "voltage_normal_l1"
    VOLTAGE_NORMAL_L2 = "voltage_normal_l2"
    VOLTAGE_NORMAL_L3 = "voltage_normal_l3"
    VOLTAGE_UNBALANCED = "voltage_unbalanced"
    VOLTAGE_BALANCED = "voltage_balanced"
