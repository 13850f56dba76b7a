"""Addresses and URLs for the outbound guard: what must never be reached, in every way of writing it that is known."""

from __future__ import annotations

FORBIDDEN = (
    # this host, this network, private networks, shared space, link-local (where clouds keep their metadata)
    "0.0.0.0", "0.0.0.1", "0.255.255.255", "10.0.0.1", "10.255.255.255", "127.0.0.1", "127.1.2.3", "127.255.255.255",
    "100.64.0.1", "100.127.255.254", "100.100.100.200", "169.254.0.1", "169.254.169.254", "169.254.170.2",
    "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.255",
    # protocol assignments, documentation, benchmarks, relays, reserved, broadcast, multicast
    "192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.10", "192.0.0.170", "192.0.0.192", "192.0.2.1", "198.51.100.1",
    "203.0.113.1", "198.18.0.1", "198.19.255.255", "192.88.99.1", "192.88.99.2", "240.0.0.1", "254.1.2.3",
    "255.255.255.255", "224.0.0.1", "224.0.1.1", "233.252.0.1", "239.255.255.250",
    # IPv6: unspecified, loopback, link-local, site-local, unique local, multicast, discard, documentation
    "::", "::1", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1",
    "ff05::2", "ff0e::1", "100::1", "2001:db8::1", "3fff::1", "3fff:fff::1", "5f00::1", "4000::1", "1fff::1", "8000::1",
    # IPv4 inside IPv6: mapped, translated, compatible, NAT64, 6to4, Teredo, ORCHID, ISATAP
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:192.168.1.1", "::ffff:0.0.0.0",
    "::ffff:224.0.0.1", "::ffff:192.0.0.9", "::ffff:0:127.0.0.1", "::127.0.0.1", "::a00:1", "::8.8.8.8",
    "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "64:ff9b:1::a9fe:a9fe",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1", "2001::1", "2001:0:7f00:1::", "2001:1::1", "2001:1::2",
    "2001:2::1", "2001:3::1", "2001:4:112::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:1ff::1",
    "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:10.0.0.1", "2400:3200::5efe:808:808",
)  # fmt: skip

PUBLIC = (
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "192.0.1.1", "192.88.98.1",
    "192.167.255.255", "192.169.0.1", "223.255.255.255", "47.95.85.22", "::ffff:8.8.8.8", "2606:4700::1111",
    "2001:4860:4860::8888", "2400:3200::1", "2a00:1450:4001::1", "2001:200::1", "3ffe:ffff::1",
)  # fmt: skip

NOTATIONS = (
    # 127.0.0.1
    "127.1", "127.0.1", "127.0.0.1.", "2130706433", "0x7f000001", "0x7F.0x0.0x0.0x1", "0x7f.1", "0177.0.0.1",
    "0177.0.0.01", "017700000001", "127.0.0.0x1", "0127.0.0.1", "00000177.0.0.1", "127.0.0.1%00", "%31%32%37.0.0.1",
    "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "１２７.0.0.1", "①②⑦.⓪.⓪.①", "𝟏𝟐𝟕.𝟎.𝟎.𝟏", "１２７。０。０。１",
    "127.0.0.1.0x", "0", "1", "00", "0x", "0x0", "4294967295", "4294967296", "99999999999",
    # 169.254.169.254
    "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376", "169.254.43518", "169.16689662",
    "169.0376.0xa9.254", "①⑥⑨.②⑤④.①⑥⑨.②⑤④", "425.510.425.510", "[::ffff:a9fe:a9fe]", "[::ffff:169.254.169.254]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]", "[fd00:ec2::254]", "[FD00:EC2::254]",
    # the rest
    "10.1", "0xa.1", "012.1", "192.168.257", "3232235777", "[::1]", "[::]", "[0000::1]", "[::ffff:7f00:1]",
    "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]",
    "[fe80::1%lo]", "[::1%25]", "[v1.x]", "[127.0.0.1]", "[::1", "::1", "[]", "1.2.3", "1.2.3.4.5", "256.1.1.1",
    "1.2.3.256", "-1.0.0.0",
)  # fmt: skip

MALFORMED = (
    "", " ", "/x.png", "//example.com/x.png", "x.png", "example.com/x.png", "http:", "http:/", "http://", "http:///x",
    "http:example.com", "http:/example.com", "https//example.com", "http ://example.com", " http://example.com/",
    "file:///etc/passwd", "file://localhost/etc/passwd", "ftp://example.com/x", "gopher://example.com/_x",
    "dict://example.com:11211/", "ldap://example.com/", "jar:http://example.com!/", "javascript:alert(1)",
    "data:image/png;base64,AAAA", "oss://dashscope-instant/x", "blob:http://example.com/x", "ws://example.com/",
    "httpx://example.com/", "h\u0442tp://example.com/", "unix:/run/x.sock", "http+unix://x/", "netdoc:///etc/passwd",
    "http://user@example.com/", "http://user:pass@example.com/", "http://@example.com/", "http://:@example.com/",
    "http://example.com@127.0.0.1/", "http://127.0.0.1@example.com/", "http://example.com:@127.0.0.1/",
    "http://example.com\\@127.0.0.1/", "http:\\\\example.com\\", "http://example.com\\x", "http://example.com/a\\b",
    "http://exam\tple.com/", "http://example.com/\t", "http://example.com/\n", "http://example.com/\r\nHost: x",
    "http://example.com/\0", "http://example.com\x7f/", "http://example.com/\x1b[0m", "http://example.com/\u2028",
    "http://exam ple.com/", "http://example.com /", "http://example.com/\u00a0x", "http://example.com/\ud800",
    "http://example.com:/", "http://example.com:x/", "http://example.com:-80/", "http://example.com:+80/",
    "http://example.com:80:80/", "http://example.com:٨٠/", "http://example.com:000080/", "http://example.com:0x50/",
    "http://.example.com/", "http://example..com/", "http://example.com./", "http://-example.com/",
    "http://example-.com/", "http://exa$mple.com/", "http://exa,mple.com/", "http://exa%6dple.com/", "http://example.com%23/",
    "http://example.com%2f@127.0.0.1/", "http://[example.com]/", "http://[::1]x/", "http://x[::1]/", "http://[::1]:/",
    "http://[::ffff:127.0.0.1%251]/", "http://[::1%eth0]/", "http://*/", "http://'/", "http://\u200b/", "http://\u2488/",
)  # fmt: skip
