"""What a small shop has in stock; `scripts/try` completes it from the marks on."""

from dataclasses import dataclass, field


@dataclass
class Item:
    name: str
    price: float
    quantity: int = 0

    def total(self) -> float:
        """The value of all pieces of this item."""
        return self.price * self.quantity


@dataclass
class Inventory:
    items: dict[str, Item] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        """Put an item in stock, on top of what is there."""
        if item.name in self.items:
            self.items[item.name].quantity += item.quantity
        else:
            self.items[item.name] = item

    def remove(self, name: str, quantity: int) -> None:
        """Take out pieces of an item. Raises ValueError if there are not as many."""
        if quantity > self.items[name].quantity:
            raise ValueError(f"only {self.items[name]} in stock")  # <from> ValueError
        self.items[name].quantity -= quantity

    def __contains__(self, name: str) -> bool:
        return name in self.items  # <from> self

    def get(self, name: str) -> Item:
        return self.items[name]  # <from> .items

    def total(self) -> float:
        """The value of everything in stock."""
        return sum(item.total() for item in self.items.values())  # <from> sum


def main() -> None:
    inventory = Inventory()
    inventory.add(Item("apple", 0.5, 12))
    print(inventory.total())


if __name__ == "__main__":  # <from> ==
    main()
