"""The bars of serving: what `octavo serve` promises, measured on a server that runs as users start it.

| file | what it has |
|---|---|
| ``served`` | a server in a process of its own: started, looked at, ended |
| ``wire`` | a request as bytes on a socket, and its answer |
| ``samples`` | inputs, and ONNX Runtime's own answers to them |
| ``clients``, ``scripts``, ``requirements`` | published clients and curl against it |
| ``hosted`` | the same bundle in KServe's own server |
| ``cost``, ``loops`` | what the server costs beside ONNX Runtime called in process |
| ``overload``, ``arrivals`` | twice of what it can do |
| ``hostile``, ``hostile_*``, ``attempt``, ``leaks`` | requests that mean harm |
| ``sigterm``, ``crowd`` | ends under load |
"""
