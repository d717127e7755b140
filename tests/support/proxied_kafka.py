"""A broker whose clients come through a proxy, while other brokers reach it directly."""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.local.kafka import KafkaCluster, KafkaNode

MAP, LISTENERS = "listener.security.protocol.map", "listeners"
ADVERTISED = "advertised.listeners"


@dataclass(frozen=True)
class ProxiedKafka(KafkaNode):
    """Has a second listener at `proxied`, which tells clients that the broker is at `proxy`.

    A proxy that listens at `proxy` and forwards to `proxied` sees everything that its clients send,
    and nothing that brokers send each other.
    """

    proxied: int = 0
    proxy: int = 0

    def properties(self) -> dict[str, str]:
        properties = super().properties()
        properties[MAP] += ",PROXIED:PLAINTEXT"
        properties[LISTENERS] += f",PROXIED://127.0.0.1:{self.proxied}"
        properties[ADVERTISED] += f",PROXIED://127.0.0.1:{self.proxy}"
        return properties


def with_proxies(
    cluster: KafkaCluster, proxied: Sequence[int], proxies: Sequence[int]
) -> KafkaCluster:
    """Returns the same nodes with these ports, one of each for every node."""
    nodes = [
        ProxiedKafka(
            node.directory,
            node.ports,
            node.jvm_options,
            node.node_id,
            node.controllers,
            node.cluster_id,
            proxied=port,
            proxy=proxy,
        )
        for node, port, proxy in zip(cluster.nodes, proxied, proxies, strict=True)
    ]
    return KafkaCluster(tuple(nodes))


def proxied_port(node: KafkaNode) -> int:
    """Returns where a proxy of this node must forward to."""
    assert isinstance(node, ProxiedKafka)
    return node.proxied
