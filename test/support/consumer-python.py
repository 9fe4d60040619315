"""Reads one queue or topic with python3-stomp and prints each message as a line of JSON: a consumer that is not ours."""
import json
import sys

import stomp

host, port, destination, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])


class Listener(stomp.ConnectionListener):
    def __init__(self, connection):
        self.connection = connection
        self.left = count

    def on_message(self, *arguments):
        # Before version 7 headers and body came as two arguments.
        headers, body = arguments if len(arguments) == 2 else (arguments[0].headers, arguments[0].body)
        print(json.dumps({"headers": headers, "body": body}), flush=True)
        self.connection.ack(headers["ack"])
        self.left -= 1
        if self.left == 0:
            self.connection.disconnect()

    def on_error(self, *arguments):
        print(arguments, file=sys.stderr, flush=True)

    def on_receipt(self, *_):
        pass


connection = stomp.Connection12([(host, port)], vhost="/")
connection.set_listener("", Listener(connection))
connection.connect("guest", "guest", wait=True)
connection.subscribe(destination, id="python", ack="client-individual")
print("subscribed", flush=True)
for line in sys.stdin:
    pass
