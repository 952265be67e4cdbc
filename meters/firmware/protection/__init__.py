"""The meter's protection core: detector, safety logic, trip records. It needs nobody else to trip."""
