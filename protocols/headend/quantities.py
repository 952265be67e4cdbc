"""What an operator can ask for by name, and the COSEM object that holds it (IEC 62056-6-1, table 8; IEC 62056-6-2)."""

from __future__ import annotations

from dataclasses import dataclass

CLASS_DATA = 1
CLASS_REGISTER = 3
CLASS_EXTENDED_REGISTER = 4
CLASS_CLOCK = 8


@dataclass(frozen=True, slots=True)
class Quantity:
    """`label` is for people, `unit` what they expect; the meter's own unit and scaler travel in answers."""

    name: str
    label: str
    obis: str
    class_id: int
    unit: str
    phases: int = 1


QUANTITIES: tuple[Quantity, ...] = (
    Quantity("active_energy_import", "Active energy, import", "1-0:1.8.0*255", CLASS_REGISTER, "kWh"),
    Quantity("active_energy_export", "Active energy, export", "1-0:2.8.0*255", CLASS_REGISTER, "kWh"),
    Quantity("reactive_energy_import", "Reactive energy, import", "1-0:3.8.0*255", CLASS_REGISTER, "kvarh"),
    Quantity("reactive_energy_export", "Reactive energy, export", "1-0:4.8.0*255", CLASS_REGISTER, "kvarh"),
    Quantity("active_power_import", "Active power, import", "1-0:1.7.0*255", CLASS_REGISTER, "kW"),
    Quantity("active_power_export", "Active power, export", "1-0:2.7.0*255", CLASS_REGISTER, "kW"),
    Quantity("reactive_power_import", "Reactive power, import", "1-0:3.7.0*255", CLASS_REGISTER, "kvar"),
    Quantity("voltage_l1", "Voltage L1", "1-0:32.7.0*255", CLASS_REGISTER, "V"),
    Quantity("current_l1", "Current L1", "1-0:31.7.0*255", CLASS_REGISTER, "A"),
    Quantity("voltage_l2", "Voltage L2", "1-0:52.7.0*255", CLASS_REGISTER, "V", phases=3),
    Quantity("current_l2", "Current L2", "1-0:51.7.0*255", CLASS_REGISTER, "A", phases=3),
    Quantity("voltage_l3", "Voltage L3", "1-0:72.7.0*255", CLASS_REGISTER, "V", phases=3),
    Quantity("current_l3", "Current L3", "1-0:71.7.0*255", CLASS_REGISTER, "A", phases=3),
    Quantity("frequency", "Frequency", "1-0:14.7.0*255", CLASS_REGISTER, "Hz"),
    Quantity("maximum_demand_import", "Maximum demand, import", "1-0:1.6.0*255", CLASS_EXTENDED_REGISTER, "kW"),
)

BY_NAME = {quantity.name: quantity for quantity in QUANTITIES}
BY_OBIS = {quantity.obis: quantity for quantity in QUANTITIES}

ON_DEMAND: tuple[str, ...] = (
    "active_energy_import",
    "reactive_energy_import",
    "active_power_import",
    "reactive_power_import",
    "voltage_l1",
    "current_l1",
    "maximum_demand_import",
)
"""What an on-demand reading asks for when the operator names nothing (use case II)."""
