"""The dialect of Alibaba Cloud Model Studio (DashScope), as its official SDKs speak and expect it."""
