"""Interface classes of the meter's objects, as declared rows (IEC 62056-6-2)."""

from __future__ import annotations

from protocols.dlms.data import Tag
from protocols.dlms.objects import Attribute, InterfaceClass, Method

DATA = InterfaceClass(1, 0, "Data", attributes=(Attribute(2, "value"),))

REGISTER = InterfaceClass(
    3,
    0,
    "Register",
    attributes=(Attribute(2, "value"), Attribute(3, "scaler_unit", (Tag.STRUCTURE,))),
    methods=(Method(1, "reset"),),
)

EXTENDED_REGISTER = InterfaceClass(
    4,
    0,
    "Extended register",
    attributes=(
        Attribute(2, "value"),
        Attribute(3, "scaler_unit", (Tag.STRUCTURE,)),
        Attribute(4, "status"),
        Attribute(5, "capture_time", (Tag.OCTET_STRING,)),
    ),
    methods=(Method(1, "reset"),),
)

DEMAND_REGISTER = InterfaceClass(
    5,
    0,
    "Demand register",
    attributes=(
        Attribute(2, "current_average_value"),
        Attribute(3, "last_average_value"),
        Attribute(4, "scaler_unit", (Tag.STRUCTURE,)),
        Attribute(5, "status"),
        Attribute(6, "capture_time", (Tag.OCTET_STRING,)),
        Attribute(7, "start_time_current", (Tag.OCTET_STRING,)),
        Attribute(8, "period", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(9, "number_of_periods", (Tag.LONG_UNSIGNED,)),
    ),
    methods=(Method(1, "reset"), Method(2, "next_period")),
)

PROFILE_GENERIC = InterfaceClass(
    7,
    1,
    "Profile generic",
    attributes=(
        Attribute(2, "buffer", (Tag.ARRAY,), selectors=(1, 2)),
        Attribute(3, "capture_objects", (Tag.ARRAY,)),
        Attribute(4, "capture_period", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(5, "sort_method", (Tag.ENUM,)),
        Attribute(6, "sort_object", (Tag.STRUCTURE,)),
        Attribute(7, "entries_in_use", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(8, "profile_entries", (Tag.DOUBLE_LONG_UNSIGNED,)),
    ),
    methods=(Method(1, "reset"), Method(2, "capture")),
)

CLOCK = InterfaceClass(
    8,
    0,
    "Clock",
    attributes=(
        Attribute(2, "time", (Tag.OCTET_STRING, Tag.DATE_TIME)),
        Attribute(3, "time_zone", (Tag.LONG,)),
        Attribute(4, "status", (Tag.UNSIGNED,)),
        Attribute(5, "daylight_savings_begin", (Tag.OCTET_STRING, Tag.DATE_TIME)),
        Attribute(6, "daylight_savings_end", (Tag.OCTET_STRING, Tag.DATE_TIME)),
        Attribute(7, "daylight_savings_deviation", (Tag.INTEGER,)),
        Attribute(8, "daylight_savings_enabled", (Tag.BOOLEAN,)),
        Attribute(9, "clock_base", (Tag.ENUM,)),
    ),
    methods=(
        Method(1, "adjust_to_quarter"),
        Method(2, "adjust_to_measuring_period"),
        Method(3, "adjust_to_minute"),
        Method(4, "adjust_to_preset_time"),
        Method(5, "preset_adjusting_time"),
        Method(6, "shift_time"),
    ),
)

ASSOCIATION_LN = InterfaceClass(
    15,
    3,
    "Association LN",
    attributes=(
        Attribute(2, "object_list", (Tag.ARRAY,), selectors=(1, 2, 3)),
        Attribute(3, "associated_partners_id", (Tag.STRUCTURE,)),
        Attribute(4, "application_context_name", (Tag.OCTET_STRING,)),
        Attribute(5, "xDLMS_context_info", (Tag.STRUCTURE,)),
        Attribute(6, "authentication_mechanism_name", (Tag.OCTET_STRING,)),
        Attribute(7, "secret", (Tag.OCTET_STRING,)),
        Attribute(8, "association_status", (Tag.ENUM,)),
        Attribute(9, "security_setup_reference", (Tag.OCTET_STRING,)),
        Attribute(10, "user_list", (Tag.ARRAY,)),
        Attribute(11, "current_user", (Tag.STRUCTURE,)),
    ),
    methods=(
        Method(1, "reply_to_HLS_authentication"),
        Method(2, "change_HLS_secret"),
        Method(3, "add_object"),
        Method(4, "remove_object"),
        Method(5, "add_user"),
        Method(6, "remove_user"),
    ),
)

SAP_ASSIGNMENT = InterfaceClass(
    17,
    0,
    "SAP assignment",
    attributes=(Attribute(2, "SAP_assignment_list", (Tag.ARRAY,)),),
    methods=(Method(1, "connect_logical_device"),),
)

IMAGE_TRANSFER = InterfaceClass(
    18,
    0,
    "Image transfer",
    attributes=(
        Attribute(2, "image_block_size", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(3, "image_transferred_blocks_status", (Tag.BIT_STRING,)),
        Attribute(4, "image_first_not_transferred_block_number", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(5, "image_transfer_enabled", (Tag.BOOLEAN,)),
        Attribute(6, "image_transfer_status", (Tag.ENUM,)),
        Attribute(7, "image_to_activate_info", (Tag.ARRAY,)),
    ),
    methods=(
        Method(1, "image_transfer_initiate"),
        Method(2, "image_block_transfer"),
        Method(3, "image_verify"),
        Method(4, "image_activate"),
    ),
)

SECURITY_SETUP = InterfaceClass(
    64,
    1,
    "Security setup",
    attributes=(
        Attribute(2, "security_policy", (Tag.ENUM,)),
        Attribute(3, "security_suite", (Tag.ENUM,)),
        Attribute(4, "client_system_title", (Tag.OCTET_STRING,)),
        Attribute(5, "server_system_title", (Tag.OCTET_STRING,)),
        Attribute(6, "certificates", (Tag.ARRAY,)),
    ),
    methods=(
        Method(1, "security_activate"),
        Method(2, "key_transfer"),
        Method(3, "key_agreement"),
        Method(4, "generate_key_pair"),
        Method(5, "generate_certificate_request"),
        Method(6, "import_certificate"),
        Method(7, "export_certificate"),
        Method(8, "remove_certificate"),
    ),
)

REGISTER_ACTIVATION = InterfaceClass(
    6,
    0,
    "Register activation",
    attributes=(
        Attribute(2, "register_assignment", (Tag.ARRAY,)),
        Attribute(3, "mask_list", (Tag.ARRAY,)),
        Attribute(4, "active_mask", (Tag.OCTET_STRING,)),
    ),
    methods=(Method(1, "add_register"), Method(2, "add_mask"), Method(3, "delete_mask")),
)

SCRIPT_TABLE = InterfaceClass(
    9, 0, "Script table", attributes=(Attribute(2, "scripts", (Tag.ARRAY,)),), methods=(Method(1, "execute"),)
)

SPECIAL_DAYS = InterfaceClass(
    11,
    0,
    "Special days table",
    attributes=(Attribute(2, "entries", (Tag.ARRAY,)),),
    methods=(Method(1, "insert"), Method(2, "delete")),
)

ACTIVITY_CALENDAR = InterfaceClass(
    20,
    0,
    "Activity calendar",
    attributes=(
        Attribute(2, "calendar_name_active", (Tag.OCTET_STRING,)),
        Attribute(3, "season_profile_active", (Tag.ARRAY,)),
        Attribute(4, "week_profile_table_active", (Tag.ARRAY,)),
        Attribute(5, "day_profile_table_active", (Tag.ARRAY,)),
        Attribute(6, "calendar_name_passive", (Tag.OCTET_STRING,)),
        Attribute(7, "season_profile_passive", (Tag.ARRAY,)),
        Attribute(8, "week_profile_table_passive", (Tag.ARRAY,)),
        Attribute(9, "day_profile_table_passive", (Tag.ARRAY,)),
        Attribute(10, "activate_passive_calendar_time", (Tag.OCTET_STRING,)),
    ),
    methods=(Method(1, "activate_passive_calendar"),),
)

REGISTER_MONITOR = InterfaceClass(
    21,
    0,
    "Register monitor",
    attributes=(
        Attribute(2, "thresholds", (Tag.ARRAY,)),
        Attribute(3, "monitored_value", (Tag.STRUCTURE,)),
        Attribute(4, "actions", (Tag.ARRAY,)),
    ),
)

SINGLE_ACTION_SCHEDULE = InterfaceClass(
    22,
    0,
    "Single action schedule",
    attributes=(
        Attribute(2, "executed_script", (Tag.STRUCTURE,)),
        Attribute(3, "type", (Tag.ENUM,)),
        Attribute(4, "execution_time", (Tag.ARRAY,)),
    ),
)

DISCONNECT_CONTROL = InterfaceClass(
    70,
    0,
    "Disconnect control",
    attributes=(
        Attribute(2, "output_state", (Tag.BOOLEAN,)),
        Attribute(3, "control_state", (Tag.ENUM,)),
        Attribute(4, "control_mode", (Tag.ENUM,)),
    ),
    methods=(Method(1, "remote_disconnect"), Method(2, "remote_reconnect")),
)

LIMITER = InterfaceClass(
    71,
    0,
    "Limiter",
    attributes=(
        Attribute(2, "monitored_value", (Tag.STRUCTURE,)),
        Attribute(3, "threshold_active", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(4, "threshold_normal", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(5, "threshold_emergency", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(6, "min_over_threshold_duration", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(7, "min_under_threshold_duration", (Tag.DOUBLE_LONG_UNSIGNED,)),
        Attribute(8, "emergency_profile", (Tag.STRUCTURE,)),
        Attribute(9, "emergency_profile_group_id_list", (Tag.ARRAY,)),
        Attribute(10, "emergency_profile_active", (Tag.BOOLEAN,)),
        Attribute(11, "actions", (Tag.STRUCTURE,)),
    ),
)

PUSH_SETUP = InterfaceClass(
    40,
    0,
    "Push setup",
    attributes=(
        Attribute(2, "push_object_list", (Tag.ARRAY,)),
        Attribute(3, "send_destination_and_method", (Tag.STRUCTURE,)),
        Attribute(4, "communication_window", (Tag.ARRAY,)),
        Attribute(5, "randomisation_start_interval", (Tag.LONG_UNSIGNED,)),
        Attribute(6, "number_of_retries", (Tag.UNSIGNED,)),
        Attribute(7, "repetition_delay", (Tag.LONG_UNSIGNED,)),
    ),
    methods=(Method(1, "push"),),
)
