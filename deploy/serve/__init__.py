"""`octavo serve`: bundles behind the Open Inference Protocol, over REST and gRPC.

| file | what it has |
|---|---|
| ``options``, ``settings`` | the command's options and what they mean |
| ``tensors``, ``json_tensors`` | tensors of the protocol to NumPy and back |
| ``infer`` | a request of the protocol, whatever it came by, to a model and back |
| ``model``, ``compute``, ``batcher`` | a loaded bundle, its warm-up, its workers, and requests run together |
| ``gate`` | how many requests are let in, and the end |
| ``rest``, ``body``, ``images``, ``page`` | HTTP: the protocol, an image's answers, the page |
| ``grpc_server``, ``messages`` | gRPC |
| ``metrics``, ``logs`` | Prometheus, and one line of JSON per request |
| ``kserve_host`` | the same model in KServe's own server |
| ``server``, ``http_server``, ``http_connection`` | start, signals, end, and what a client may not do |

HTTP is uvicorn's and Starlette's, gRPC is grpcio's; what is here is the protocol, between them and NumPy. It
imports neither PyTorch nor pydantic. The settings need nothing but the standard library.
"""
