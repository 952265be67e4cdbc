"""The flash chip's geometry and partitions, and the modules that the board needs: the numbers of the reference."""

from __future__ import annotations

from dataclasses import dataclass

PAGE_BYTES = 2048
OOB_BYTES = 64
PAGES_PER_BLOCK = 64
BLOCK_BYTES = PAGE_BYTES * PAGES_PER_BLOCK
BLOCKS = 2048
SUB_PAGE_BYTES = 512
LEB_BYTES = BLOCK_BYTES - 2 * SUB_PAGE_BYTES - (PAGE_BYTES - 2 * SUB_PAGE_BYTES)
"""A logical block: the erase block without the page that holds both UBI headers."""
DUMP_BYTES = BLOCKS * PAGES_PER_BLOCK * (PAGE_BYTES + OOB_BYTES)
"""The chip with its spare areas, 276,824,064 bytes."""
CARD_BYTES = 512 << 20
"""The card that stands behind the chip: a power of two, as SD cards are."""
NAND_ID = (0x01, 0xDA, 0x90, 0x95, 0x46)
"""The S34ML02G2's identity: 256 MiB, 3.3 V, 8 bits, pages of 2 KiB, blocks of 128 KiB."""
_RESERVED_BLOCKS = 4 + 40
"""Kept back by UBI: two for its volume table, one to level wear, one to change a block in place, and 20 of every
1,024 blocks of the chip for those that go bad."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One MTD partition with one UBI volume. `reserved_bytes` is UBIFS's pool for root's programs.

    The concentrator's own store-and-forward writes as root: what anybody else leaves on /opt cannot take that room.
    df does not count it as free.
    """

    name: str
    blocks: int
    reserved_bytes: int

    @property
    def volume_blocks(self) -> int:
        """Logical blocks of the volume that fills the partition."""
        return self.blocks - _RESERVED_BLOCKS


ROOTFS = Partition("rootfs", blocks=569, reserved_bytes=0)
OPT = Partition("opt", blocks=1226, reserved_bytes=12_250_000)
PARTITIONS = (ROOTFS, OPT)

BOOT_MODULES = (
    "gpio_mxc", "sdhci_esdhc_imx", "mmc_block", "nandsim", "lzo", "lzo_rle", "deflate", "zlib_deflate", "zstd",
    "ubi", "ubifs",
)  # fmt: skip
"""In the initramfs: what reaches the root file system, in the order of loading."""
BOARD_MODULES = (
    "fec", "micrel", "imx2_wdt", "tun", "rtc_snvs", "snvs_pwrkey", "imx_thermal",
    "r8188eu", "mac80211_hwsim", "mac802154_hwsim", "ieee802154_6lowpan", "nhc_udp", "nhc_fragment", "nhc_ipv6",
    "ppp_generic", "ppp_async", "option", "qmi_wwan", "cdc_acm", "cdc_ether", "pps_ldisc", "pps_gpio", "ipv6",
    "sit", "8021q", "bridge", "nf_tables", "nft_ct", "nft_masq", "xt_MASQUERADE", "iptable_nat", "ip6table_filter",
    "usb_storage", "vfat", "ext4", "nls_cp437", "nls_ascii", "sch_netem", "sch_tbf", "sch_fq_codel", "ccm", "cmac",
    "gcm", "ctr", "rtc_ds1307", "spi_imx", "i2c_imx", "af_packet", "packet_diag", "ftdi_sio", "cp210x", "pl2303",
)  # fmt: skip
"""In the root file system: radio, network, USB, watchdog, clocks."""
BOARD_MODULE_FOLDERS = (
    "kernel/net", "kernel/crypto", "kernel/drivers/net/usb", "kernel/drivers/usb/serial", "kernel/drivers/usb/class",
)  # fmt: skip
"""Whole families of modules beside them: every network protocol, cipher, modem and adapter that may be plugged in."""
