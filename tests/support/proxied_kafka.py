"""A broker whose clients connect through a proxy. Other brokers connect directly."""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.local.kafka import KafkaCluster, KafkaNode

MAP, LISTENERS = "listener.security.protocol.map", "listeners"
ADVERTISED = "advertised.listeners"


@dataclass(frozen=True)
class ProxiedKafka(KafkaNode):
    """A node with a second listener on port `proxied`, advertised to clients as port `proxy`.

    A proxy that listens on `proxy` and forwards to `proxied` sees all traffic of its clients, and
    none between brokers.
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
    """Returns the same nodes, each with one of these proxied and proxy ports."""
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
    """Returns the port to which a proxy of this node must forward."""
    assert isinstance(node, ProxiedKafka)
    return node.proxied
