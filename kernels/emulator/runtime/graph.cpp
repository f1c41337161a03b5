// Finished graphs: checks that every fork was joined, finds concurrent nodes, and the orders in which nodes may run.
#include <map>

#include "not_emulated.h"
#include "stream.h"
#include "touches.h"

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

// Accesses of nodes to one page.
struct User {
  std::size_t node;
  bool writes;
};

void forbid_races(const Graph& graph, const std::map<std::uint64_t, std::vector<User>>& users) {
  const std::vector<Set> before = predecessors(graph.nodes);
  for (const auto& [page, of_page] : users) {
    for (const User& a : of_page) {
      for (const User& b : of_page) {
        if (a.node >= b.node || !(a.writes || b.writes) || before[b.node][a.node]) continue;
        fail("nothing orders %s (node %zu of a graph) and %s (node %zu), and one writes what the other touches",
             graph.nodes[a.node].name, a.node, graph.nodes[b.node].name, b.node);
      }
    }
  }
}

bool forks(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    if (node.forked) return true;
  }
  return false;
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
  for (const bool forked_first : {false, true}) graph.orders[forked_first] = order_nodes(graph.nodes, forked_first);
  return CUDA_SUCCESS;
}

void run_graph(const Graph& graph, unsigned launch) {
  // A missing dependency may only show in one order.
  const std::vector<std::size_t>& order = graph.orders[launch % 2];
  if (launch > 0 || !forks(graph)) {
    for (const std::size_t index : order) graph.nodes[index].run();
    return;
  }
  std::map<std::uint64_t, std::vector<User>> users;
  {
    TouchWatch watch;
    for (const std::size_t index : order) {
      graph.nodes[index].run();
      for (const Touch& touch : watch.take()) users[touch.page].push_back({index, touch.writes});
    }
  }
  forbid_races(graph, users);
}

}  // namespace cuda_emulator
