from tests.stack.test_webhooks import *
def test_probe(make):
    stack = make().start()
    print(stack.output()[-3000:])
    print(stack.config.read_text())
    r = stack.manage("apply", str(stack.config), "--dry-run"); print(r.stdout[-2000:], r.stderr[-2000:])
