/* The agent's half of docs/dev/lockstep.md: what the concentrator's guest and the simulator say to each other.
 *
 * Every message is a head, a part that its kind fixes, and records. All numbers are little-endian; times are
 * nanoseconds of the guest's CLOCK_MONOTONIC_RAW. twin/rigs/lockstep/protocol.py is the other half.
 */
#pragma once
#include <stdint.h>

enum { PROTOCOL_MAGIC = 0x4c54414f /* "OATL" */, PROTOCOL_VERSION = 2 };
enum { MESSAGE_BYTES = 64 * 1024 };

enum kind {
  KIND_HELLO = 1,   /* guest: here is an agent */
  KIND_WELCOME = 2, /* host: go on; its record is entropy */
  KIND_REPORT = 3,  /* guest: the time, and what is sent */
  KIND_GRANT = 4,   /* host: what is received, and how far to run */
  KIND_DETACH = 5,  /* host: close the pipes, sleep, and look for a host again */
};

enum channel {
  CHANNEL_AGENT,
  CHANNEL_RADIO,
  CHANNEL_MAINTENANCE,
  CHANNEL_GPS,
  CHANNEL_MODEM,
  CHANNEL_SHELL,
  CHANNEL_SATELLITE, /* connections to port 1883 of the loopback interface */
  CHANNEL_CELLULAR,  /* connections to port 1884 */
  CHANNEL_TRACE,     /* what the daemon writes into its trace file */
  CHANNEL_NETWORK,   /* IP packets of the interface lockstep0, each in one record */
};

enum event { EVENT_DATA, EVENT_OPEN, EVENT_CLOSE, EVENT_NOTE, EVENT_ENTROPY };

struct head {
  uint32_t magic;
  uint8_t version;
  uint8_t kind;
  uint16_t records;
  uint32_t body_bytes; /* of what follows this head */
} __attribute__((packed));

struct report {
  uint64_t time_ns;
  uint64_t quiet_until_ns; /* before it no process of the guest runs; 0 where that is not known */
  uint64_t delivered_bytes; /* given to the guest's devices since the start of the conversation */
  uint64_t collected_bytes; /* taken from them */
  uint32_t late_ns;        /* how long after its time the last delivery was */
  uint32_t dropped_bytes;  /* what no device would take */
  uint32_t broken_quiets;  /* outputs before the instant that was said to be quiet */
} __attribute__((packed));

struct grant {
  uint64_t deliver_ns; /* when the records reach their devices */
  uint64_t until_ns;   /* report then, or at the first output after the delivery */
} __attribute__((packed));

struct record {
  uint8_t channel;
  uint8_t event;
  uint16_t connection; /* of an uplink; 0 elsewhere */
  uint32_t size_bytes;
} __attribute__((packed));
