// Finished graphs: whether every fork was joined, what may run at once, and in which orders nodes may run.
#include "memory.h"
#include "not_emulated.h"
#include "stream.h"

namespace cuda_emulator {
namespace {

using Set = std::vector<bool>;

// For each node, those that must run before it.
std::vector<Set> predecessors(const std::vector<Node>& nodes) {
  std::vector<Set> before;
  for (const Node& node : nodes) {
    Set set(nodes.size());
    for (const std::size_t direct : node.after) {
      set[direct] = true;
      for (std::size_t index = 0; index < direct; ++index) {
        if (before[direct][index]) set[index] = true;
      }
    }
    before.push_back(std::move(set));
  }
  return before;
}

// The beginning of an allocation, which may be one that the graph will make.
std::uint64_t allocation_of(const Graph& graph, CUdeviceptr address) {
  for (const GraphMemory& memory : graph.memory) {
    if (address >= memory.address && address - memory.address < memory.size) return memory.address;
  }
  return find_memory(address).address;
}

void forbid_races(const Graph& graph, const std::vector<Set>& before) {
  std::vector<std::vector<Access>> accesses;
  for (const Node& node : graph.nodes) {
    accesses.push_back(node.accesses);
    for (Access& access : accesses.back()) access.address = allocation_of(graph, access.address);
  }
  for (std::size_t later = 0; later < accesses.size(); ++later) {
    for (std::size_t earlier = 0; earlier < later; ++earlier) {
      if (before[later][earlier]) continue;
      for (const Access& a : accesses[earlier]) {
        for (const Access& b : accesses[later]) {
          if (a.address != b.address || !(a.writes || b.writes)) continue;
          fail("nothing orders %s (node %zu of a graph) and %s (node %zu), and one writes what the other touches",
               graph.nodes[earlier].name, earlier, graph.nodes[later].name, later);
        }
      }
    }
  }
}

// Of the nodes that can run, always the first captured of the preferred kind, if there is one.
std::vector<std::size_t> order_nodes(const std::vector<Node>& nodes, bool forked_first) {
  std::vector<std::size_t> order;
  Set done(nodes.size());
  const auto can_run = [&](std::size_t index) {
    if (done[index]) return false;
    for (const std::size_t direct : nodes[index].after) {
      if (!done[direct]) return false;
    }
    return true;
  };
  while (order.size() < nodes.size()) {
    std::size_t next = nodes.size();
    for (std::size_t index = 0; index < nodes.size(); ++index) {
      if (!can_run(index)) continue;
      if (next == nodes.size()) next = index;
      if (nodes[index].forked == forked_first) {
        next = index;
        break;
      }
    }
    done[next] = true;
    order.push_back(next);
  }
  return order;
}

}  // namespace

CUresult finish_graph(Graph& graph, const std::vector<std::size_t>& last) {
  const std::vector<Set> before = predecessors(graph.nodes);
  Set joined(graph.nodes.size());
  for (const std::size_t node : last) {
    joined[node] = true;
    for (std::size_t index = 0; index < node; ++index) {
      if (before[node][index]) joined[index] = true;
    }
  }
  for (const bool is_joined : joined) {
    if (!is_joined) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  }
  forbid_races(graph, before);
  for (const bool forked_first : {false, true}) graph.orders[forked_first] = order_nodes(graph.nodes, forked_first);
  return CUDA_SUCCESS;
}

}  // namespace cuda_emulator
