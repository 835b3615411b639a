#!/usr/bin/env python3
"""What a change of one Service costs on a cluster that has many. figures.sh runs it; times are seconds of CLOCK_MONOTONIC,
which every namespace of the machine shares.

usage: figures.py fill KUBECONFIG N                 N Services with a slice of three endpoints each, in namespace churn
       figures.py toggle KUBECONFIG SLICE N GAP IP  N times: no endpoint, then IP; a line per change: when, endpoints
       figures.py watched KUBECONFIG SLICE N        N times: seconds from a change to a watch's event of it
       figures.py rewrite KUBECONFIG N RATE SECONDS endpoint sets of the N slices, RATE changes a second
       figures.py pods KUBECONFIG NODE N            N pods, one after the other: seconds from scheduled to running
       figures.py connect ADDRESS PORT SECONDS      connects every millisecond; a line per change of the answer: when, 0 or 1
       figures.py delays TOGGLES ANSWERS            the toggle and the connect lines: seconds from change to first connection
"""
import base64, http.client, json, queue, random, re, socket, ssl, sys, tempfile, threading, time

SLICES = "/apis/discovery.k8s.io/v1/namespaces/churn/endpointslices"


class Server:
    """A connection to the API server with the administrator's certificate."""

    def __init__(self, kubeconfig):
        text = open(kubeconfig).read()
        self.host, self.port = re.search(r"https://\[?([0-9a-f.:]+?)\]?:(\d+)[\s\"]", text).groups()
        self.context = ssl.create_default_context(cadata=self.decoded(text, "certificate-authority-data").decode())
        with tempfile.NamedTemporaryFile() as both:
            both.write(self.decoded(text, "client-certificate-data") + b"\n" + self.decoded(text, "client-key-data"))
            both.flush()
            self.context.load_cert_chain(both.name)
        self.connection = self.connect()

    @staticmethod
    def decoded(text, key):
        return base64.b64decode(re.search(key + r': "?([A-Za-z0-9+/=]+)', text).group(1))

    def connect(self):
        return http.client.HTTPSConnection(self.host, int(self.port), context=self.context)

    def ask(self, method, path, body=None, kind="application/json", may=()):
        self.connection.request(method, path, body and json.dumps(body), {"Content-Type": kind})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status == 429:
            time.sleep(0.2)
            return self.ask(method, path, body, kind, may)
        if answer.status > 299 and answer.status not in may:
            sys.exit(f"{method} {path}: {answer.status} {text.decode()[:300]}")
        return json.loads(text)

    def endpoints(self, name, addresses):
        listed = [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]
        self.ask("PATCH", f"{SLICES}/{name}", {"endpoints": listed}, "application/merge-patch+json")

    def watch(self, path):
        connection = self.connect()
        connection.request("GET", path)
        for line in connection.getresponse():
            yield json.loads(line)


def made_up(service, number):
    """An address that no pod has."""
    place = service * 3 + number
    return f"10.200.{place // 250 % 256}.{place % 250 + 1}"


def fill(kubeconfig, count):
    Server(kubeconfig).ask("POST", "/api/v1/namespaces", {"metadata": {"name": "churn"}}, may=(409,))
    waiting = queue.SimpleQueue()
    for number in range(int(count)):
        waiting.put(number)

    def work():
        server = Server(kubeconfig)
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            name = f"s{number}"
            port = {"name": "p", "port": 80, "protocol": "TCP"}
            service = {"metadata": {"name": name}, "spec": {"ports": [port]}}
            server.ask("POST", "/api/v1/namespaces/churn/services", service, may=(409,))
            listed = [{"addresses": [made_up(number, i)], "conditions": {"ready": True}} for i in range(3)]
            meta = {"name": name, "labels": {"kubernetes.io/service-name": name}}
            server.ask("POST", SLICES, {"metadata": meta, "addressType": "IPv4", "ports": [port], "endpoints": listed}, may=(409,))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def toggle(kubeconfig, name, count, gap, address):
    server = Server(kubeconfig)
    for _ in range(int(count)):
        for addresses in ([], [address]):
            time.sleep(float(gap) * random.uniform(0.5, 1.5))
            start = time.monotonic()
            server.endpoints(name, addresses)
            print(f"{start:.6f} {len(addresses)}", flush=True)


def watched(kubeconfig, name, count):
    server, seen = Server(kubeconfig), queue.SimpleQueue()
    path = f"{SLICES}?watch=1&fieldSelector=metadata.name={name}"

    def watch():
        for event in Server(kubeconfig).watch(path):
            seen.put((time.monotonic(), event["object"].get("endpoints")))

    threading.Thread(target=watch, daemon=True).start()
    # What is there already is said at once.
    seen.get(timeout=5)
    for number in range(int(count)):
        time.sleep(0.1)
        start, address = time.monotonic(), made_up(number % 2, 0)
        server.endpoints(name, [address])
        while True:
            at, endpoints = seen.get(timeout=5)
            if endpoints and endpoints[0]["addresses"] == [address]:
                print(f"{at - start:.6f}")
                break


def rewrite(kubeconfig, count, rate, seconds):
    server, start, done = Server(kubeconfig), time.monotonic(), 0
    while time.monotonic() - start < float(seconds):
        number = done % int(count)
        # Never what is there: every change is one to every agent.
        server.endpoints(f"s{number}", [made_up(number, i) for i in (0, 1, random.randrange(3, 10_000))])
        done += 1
        time.sleep(max(0.0, start + done / float(rate) - time.monotonic()))
    print(done)


def pods(kubeconfig, node, count):
    server = Server(kubeconfig)
    container = {"name": "c", "image": "registry.k8s.io/pause:3.10.2", "imagePullPolicy": "Never"}
    spec = {"nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 0, "containers": [container]}
    for number in range(int(count)):
        name = f"timed-{number}"
        server.ask("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": name}, "spec": spec})
        scheduled = None
        for event in server.watch(f"/api/v1/namespaces/default/pods?watch=1&fieldSelector=metadata.name={name}"):
            if not scheduled and event["object"]["spec"].get("nodeName"):
                scheduled = time.monotonic()
            if event["object"]["status"].get("phase") == "Running":
                print(f"{time.monotonic() - scheduled:.4f}", flush=True)
                break
        server.ask("DELETE", f"/api/v1/namespaces/default/pods/{name}", {"gracePeriodSeconds": 0})


def connect(address, port, seconds):
    last, end = None, time.monotonic() + float(seconds)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while time.monotonic() < end:
        client = socket.socket(family, socket.SOCK_STREAM)
        client.settimeout(1)
        # A reset instead of FIN: closed connections do not use up the source ports.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        try:
            client.connect((address, int(port)))
            good = 1
        except OSError:
            good = 0
        client.close()
        if good != last:
            print(f"{time.monotonic():.6f} {good}", flush=True)
            last = good
        time.sleep(0.001)


def delays(toggles, answers):
    pairs = [[(float(at), int(value)) for at, value in map(str.split, open(path))] for path in (toggles, answers)]
    for at, value in pairs[0]:
        if value:
            first = next((when - at for when, good in pairs[1] if good and when > at), None)
            if first is None:
                sys.exit("no connection after the last change: did the client end too early?")
            print(f"{first:.6f}")


if __name__ == "__main__":
    verbs = {verb.__name__: verb for verb in (fill, toggle, watched, rewrite, pods, connect, delays)}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    verbs[sys.argv[1]](*sys.argv[2:])
