/* An interface of the guest whose other end is the simulator. Its IP packets go as they are, each in one record. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

#define NAME "lockstep0"
#define ADDRESS "10.0.4.15"
#define NETWORK_MASK "255.255.255.0"
/* Less than what IPv6 wants of an interface: with it the kernel would speak by itself, in promised quiet. */
enum { PACKET_BYTES = 576 };

static int device = -1; /* stays so where the kernel has no such interfaces */

static bool set_address(int control, unsigned long request, const char *address) {
  struct ifreq interface = {.ifr_name = NAME};
  struct sockaddr_in place = {.sin_family = AF_INET};
  inet_pton(AF_INET, address, &place.sin_addr);
  memcpy(&interface.ifr_addr, &place, sizeof place);
  return ioctl(control, request, &interface) == 0;
}

static bool configure(void) {
  struct ifreq limit = {.ifr_name = NAME, .ifr_mtu = PACKET_BYTES};
  struct ifreq state = {.ifr_name = NAME, .ifr_flags = IFF_UP | IFF_NOARP};
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  bool is_done = ioctl(control, SIOCSIFMTU, &limit) == 0 && set_address(control, SIOCSIFADDR, ADDRESS) &&
                 set_address(control, SIOCSIFNETMASK, NETWORK_MASK) && ioctl(control, SIOCSIFFLAGS, &state) == 0;
  close(control);
  return is_done;
}

bool network_begin(void) {
  struct ifreq wanted = {.ifr_name = NAME, .ifr_flags = IFF_TUN | IFF_NO_PI};
  device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (device < 0) return errno == ENOENT || errno == ENODEV;
  return ioctl(device, TUNSETIFF, &wanted) == 0 && configure();
}

size_t network_poll(struct pollfd *polled) {
  *polled = (struct pollfd){device, POLLIN, 0};
  return 1;
}

bool network_collect(const struct pollfd *polled, size_t count, struct message *into) {
  static uint8_t packet[PACKET_BYTES];
  if (!count || !(polled->revents & POLLIN) || message_room(into) < sizeof packet) return false;
  ssize_t size = read(device, packet, sizeof packet);
  if (size <= 0) return false;
  message_add(into, CHANNEL_NETWORK, EVENT_DATA, 0, packet, size);
  totals.collected_bytes += size;
  return true;
}

/* The kernel takes a packet at once, or refuses it; whether anybody listens is the packet's affair. */
void network_deliver(const void *packet, size_t size) {
  if (write(device, packet, size) == (ssize_t)size)
    totals.delivered_bytes += size;
  else
    totals.dropped_bytes += size;
}
